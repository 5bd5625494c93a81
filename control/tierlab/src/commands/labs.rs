//! `tierlab labs` and `tierlab down`: the running labs.

use crate::args;
use crate::exit::{Error, Exit};
use crate::live::api::client;
use crate::output::{print, render};
use realization::logical::{Column, Row};
use serde::Serialize;

/// A running lab.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LabRow {
    /// Its name.
    name: String,
    /// Its process.
    pid: u32,
    /// Seconds since its start.
    uptime: u64,
    /// Pods.
    pods: usize,
    /// Ports that something real is plugged into.
    attached: usize,
    /// Changes since its start.
    changes: u64,
    /// Its socket.
    socket: String,
}

impl Row for LabRow {
    const COLUMNS: &'static [Column] = &[
        Column { name: "NAME", wide: false },
        Column { name: "PID", wide: false },
        Column { name: "UPTIME", wide: false },
        Column { name: "PODS", wide: false },
        Column { name: "ATTACHED", wide: false },
        Column { name: "CHANGES", wide: false },
        Column { name: "SOCKET", wide: true },
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.pid.to_string(),
            format!("{}s", self.uptime),
            self.pods.to_string(),
            self.attached.to_string(),
            self.changes.to_string(),
            self.socket.clone(),
        ]
    }
}

pub fn labs(args: &args::Labs) -> Result<Exit, Error> {
    let rows = client::labs().into_iter().map(|(entry, info)| LabRow {
        name: info.name,
        pid: info.pid,
        uptime: info.uptime,
        pods: info.pods,
        attached: info.attached,
        changes: info.changes,
        socket: entry.socket.display().to_string(),
    });
    print(&render(&rows.collect::<Vec<_>>(), args.output)?)?;
    Ok(Exit::Ok)
}

pub fn down(args: &args::Down) -> Result<Exit, Error> {
    client::down(&client::find(args.lab.running.as_deref())?)
}
