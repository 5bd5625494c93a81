//! `tierlab get`: tables of a lab.

use crate::args::{self, Kind};
use crate::exit::{Error, Exit};
use crate::live::api::client;
use crate::live::api::protocol::Request;
use crate::observed::Observed;
use crate::open::{Opened, lab, open};
use crate::output::{Format, print, render};
use crate::tables::{
    drops_of, firewall_rules, gateway_rules, nat_rules, neighbors, port_traffic, sessions,
    virtual_servers,
};
use realization::Realized;
use realization::logical::Row;

pub fn run(args: &args::Get) -> Result<Exit, Error> {
    let Some(built) = args.lab.built() else {
        let request = Request::Get {
            kind: args.kind,
            namespace: args.namespace.clone(),
            format: args.output,
        };
        return client::call(&client::find(args.lab.running.as_deref())?, request);
    };
    let opened = open(&built)?;
    let namespace = args.namespace.as_deref();
    check_namespace(&opened, namespace)?;
    let observed = Observed::of(&mut lab(&opened.realized), args.kind);
    print(&text(&opened.realized, &observed, args.kind, namespace, args.output)?)?;
    Ok(Exit::Ok)
}

/// Whether a namespace is one of the lab's.
pub fn check_namespace(opened: &Opened, namespace: Option<&str>) -> Result<(), Error> {
    let namespaces = &opened.definitions.namespaces;
    match namespace.filter(|ns| !namespaces.contains_key(*ns)) {
        None => Ok(()),
        Some(ns) => Err(Error::input(format!(
            "there is no namespace '{ns}'; there are {}",
            namespaces.keys().cloned().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// A table of a lab, for which it was observed.
pub fn text(
    realized: &Realized,
    observed: &Observed,
    kind: Kind,
    namespace: Option<&str>,
    format: Format,
) -> Result<String, Error> {
    let logical = &realized.logical;
    let network = &observed.network;
    let out = Show { namespace, format };
    match kind {
        Kind::Namespaces => out.rows(&logical.namespaces),
        Kind::Segments => out.rows(&logical.segments),
        Kind::Pods => out.rows(&logical.pods),
        Kind::Hosts => out.rows(&logical.hosts),
        Kind::Services => out.rows(&logical.services),
        Kind::Virtualservers => out.rows(&virtual_servers(realized, &observed.hits)),
        Kind::Nat => out.rows(&nat_rules(realized, &observed.hits)),
        Kind::Dfw => out.rows(&firewall_rules(realized, &observed.hits)),
        Kind::Gatewayfirewall => out.rows(&gateway_rules(realized, &observed.hits)),
        Kind::Routes => out.rows(&logical.routes),
        Kind::Ports => out.rows(&port_traffic(realized, &observed.ports)),
        Kind::Neighbors => out.rows(&neighbors(network, &observed.neighbors)),
        Kind::Sessions => out.rows(&sessions(network, &observed.sessions)),
        Kind::Drops => out.rows(&drops_of(network, &observed.drops)),
    }
}

struct Show<'a> {
    namespace: Option<&'a str>,
    format: Format,
}

impl Show<'_> {
    fn rows<R: Row + Clone>(&self, rows: &[R]) -> Result<String, Error> {
        let shown: Vec<R> = rows
            .iter()
            .filter(|r| self.namespace.is_none() || r.namespace() == self.namespace)
            .cloned()
            .collect();
        render(&shown, self.format)
    }
}
