//! What calls do to a running lab.
//!
//! A change is parsed, realized and written down here, while the packet thread goes on with the network it has; that
//! thread is handed the finished snapshot. When a change is answered, the new snapshot is in force. Nothing is half
//! done: up to the hand-over nothing has changed but the file of allocations, of which only what fits the
//! definitions is ever used.
//!
//! What is plugged in cannot change while the lab runs: a namespace has been given its addresses, routes and name
//! servers. Changes of Attachments, or of what an attached endpoint has, are refused.

use super::protocol::{Answer, Info, Request, Text};
use super::tracing;
use crate::change::{Changed, change};
use crate::commands::get;
use crate::exit::Error;
use crate::live::jobs::{Desk, LabEnding};
use crate::live::plan::Plan;
use crate::observed::Observed;
use crate::open::{Opened, lines, network_after};
use crate::output::printable;
use definitions::model::Source;
use definitions::{Change, Effect, ObjectRef};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// A running lab, seen from its API.
#[derive(Debug)]
pub struct Control {
    /// Its name.
    pub name: String,
    /// As it is defined and realized now.
    pub opened: Opened,
    /// What is plugged in.
    pub plan: Plan,
    /// To the packet thread.
    pub desk: Desk,
    /// Where its allocations are kept.
    pub allocations: PathBuf,
    /// When it began.
    pub start: Instant,
    /// Changes since then.
    pub changes: u64,
}

impl From<LabEnding> for Error {
    fn from(ending: LabEnding) -> Error {
        Error::environment(ending.to_string())
    }
}

impl Control {
    /// Does what is asked for.
    pub fn answer(&mut self, request: Request) -> Answer {
        self.done(request).unwrap_or_else(Answer::from)
    }

    fn done(&mut self, request: Request) -> Result<Answer, Error> {
        match request {
            Request::Info {} => Ok(Answer::Info(self.info())),
            Request::Apply { texts } => self
                .change(Change::apply(&Text::inputs(texts)).map_err(|f| Error::input(lines(&f)))?),
            Request::Delete { texts } => self
                .change(Change::delete(&Text::inputs(texts)).map_err(|f| Error::input(lines(&f)))?),
            Request::DeleteObject { kind, namespace, name } => {
                let object = ObjectRef { kind, namespace, name };
                let place = Source { file: "delete".into(), line: 0 };
                let change = Change::delete_object(&object, place);
                self.change(change.map_err(|f| Error::input(lines(&f)))?)
            }
            Request::Get { kind, namespace, format } => {
                let namespace = namespace.as_deref();
                get::check_namespace(&self.opened, namespace)?;
                let observed = Observed::of_running(&mut self.desk, kind)?;
                let text = get::text(&self.opened.realized, &observed, kind, namespace, format)?;
                let notices = observed.notice().into_iter().collect();
                Ok(Answer::Done { text, notices })
            }
            Request::Trace { from, to, protocol, json, bold } => {
                let packet = tracing::Packet::new(&self.opened.realized, &from, &to, protocol)?;
                let view = self.desk.ask(move |running| tracing::trace(running.lab, &packet))??;
                Ok(Answer::text(tracing::text(&view, json, bold)?))
            }
            Request::Down {} => {
                self.desk.ask(|running| running.end = true)?;
                Ok(Answer::text(String::new()))
            }
        }
    }

    fn info(&self) -> Info {
        Info {
            name: self.name.clone(),
            pid: std::process::id(),
            uptime: self.start.elapsed().as_secs(),
            pods: self.opened.definitions.pods.len(),
            attached: self.plan.plugs.len(),
            changes: self.changes,
        }
    }

    /// Makes a change, and tells what became of each object.
    fn change(&mut self, wanted: Change) -> Result<Answer, Error> {
        let Changed { opened, effects, notices } =
            change(&self.opened, &wanted).map_err(|f| Error::input(lines(&f)))?;
        let text = told(&wanted, &effects);
        let notices = notices.iter().map(|notice| printable(&notice.to_string())).collect();
        if effects.is_empty() {
            return Ok(Answer::Done { text, notices });
        }
        let plan = self.unplugged(&opened)?;
        let kept = &opened.realized.allocations;
        kept.save(&self.allocations).map_err(|e| Error::environment(e.to_string()))?;
        let before = self.desk.ask(|running| Arc::clone(running.lab.network()))?;
        let network = network_after(&opened.realized, &before);
        let hosts = opened.realized.hosts.clone();
        self.desk.ask(move |running| running.lab.publish(network, hosts))?;
        self.changes += 1;
        self.plan = plan;
        self.opened = opened;
        // Here and not there: to free a large network takes its time.
        drop(before);
        Ok(Answer::Done { text, notices })
    }

    /// The plan of a changed lab, if all that is plugged in stays as it is.
    fn unplugged(&self, opened: &Opened) -> Result<Plan, Error> {
        let help = "end the lab with 'tierlab down' and start it again";
        let (before, after) =
            (&self.opened.definitions.attachments, &opened.definitions.attachments);
        let names = before.keys().chain(after.keys());
        for name in names {
            let (old, new) = (before.get(name), after.get(name));
            if old.map(|a| &a.spec) != new.map(|a| &a.spec) {
                let place =
                    new.or(old).map_or_else(String::new, |a| format!("{}: ", a.meta.source));
                return Err(Error::input(format!(
                    "{place}Attachment '{name}': what is plugged in cannot change while the lab runs; {help}"
                )));
            }
        }
        let plan = Plan::of(opened)?;
        for (old, new) in self.plan.plugs.iter().zip(&plan.plugs) {
            if let Some(what) = old.difference(new) {
                return Err(Error::input(format!(
                    "{}: its {what} would change, and it is attached; {help}",
                    old.name
                )));
            }
        }
        Ok(plan)
    }
}

/// What became of the objects of a change and of others by it, in `kubectl`'s words.
fn told(wanted: &Change, effects: &[(ObjectRef, Effect)]) -> String {
    let mut objects = wanted.objects();
    objects.extend(effects.iter().map(|(object, _)| object.clone()));
    objects.sort();
    objects.dedup();
    let line = |object: &ObjectRef| {
        let effect = effects.iter().find(|(changed, _)| changed == object);
        let effect =
            effect.map_or_else(|| "unchanged".to_owned(), |(_, effect)| effect.to_string());
        format!("{} {effect}\n", printable(&object.resource()))
    };
    objects.iter().map(line).collect()
}
