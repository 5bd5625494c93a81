//! `tierlab get`: tables of a lab.

use crate::args::{self, Kind};
use crate::exit::{Error, Exit};
use crate::open::{lab, open};
use crate::output::{Format, print, render};
use crate::tables::{drops, port_traffic, sessions};
use realization::logical::Row;

pub fn run(args: &args::Get) -> Result<Exit, Error> {
    let opened = open(&args.lab)?;
    let namespace = args.namespace.as_deref();
    if let Some(ns) = namespace
        && !opened.definitions.namespaces.contains_key(ns)
    {
        return Err(Error::input(format!(
            "there is no namespace '{ns}'; there are {}",
            opened.definitions.namespaces.keys().cloned().collect::<Vec<_>>().join(", ")
        )));
    }
    let logical = &opened.realized.logical;
    let show = |format| Show { namespace, format };
    let out = show(args.output);
    let text = match args.kind {
        Kind::Namespaces => out.rows(&logical.namespaces),
        Kind::Segments => out.rows(&logical.segments),
        Kind::Pods => out.rows(&logical.pods),
        Kind::Hosts => out.rows(&logical.hosts),
        Kind::Services => out.rows(&logical.services),
        Kind::Virtualservers => out.rows(&logical.virtual_servers),
        Kind::Nat => out.rows(&logical.nat),
        Kind::Dfw => out.rows(&logical.dfw),
        Kind::Routes => out.rows(&logical.routes),
        Kind::Ports => out.rows(&port_traffic(&opened.realized, &mut lab(&opened.realized))),
        Kind::Sessions => out.rows(&sessions(&mut lab(&opened.realized))),
        Kind::Drops => out.rows(&drops(&mut lab(&opened.realized))),
    }?;
    print(&text)?;
    Ok(Exit::Ok)
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
