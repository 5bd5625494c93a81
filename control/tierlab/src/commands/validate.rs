//! `tierlab validate`: definitions checked and realized, nothing run.

use crate::args;
use crate::exit::{Error, Exit};
use crate::open::open;
use crate::output::{Format, aligned, pretty_json, print};
use serde_json::json;

pub fn run(args: &args::Validate) -> Result<Exit, Error> {
    let opened = open(&args.lab)?;
    let l = &opened.realized.logical;
    let counts = [
        ("segments", l.segments.len()),
        ("pods", l.pods.len()),
        ("services", l.services.len()),
        ("virtualservers", l.virtual_servers.len()),
        ("nat", l.nat.len()),
        ("dfw", l.dfw.len()),
        ("routes", l.routes.len()),
        ("ports", l.ports.len()),
        ("packettests", opened.definitions.packet_tests.len()),
    ];
    let statuses = &opened.realized.statuses;
    let text = match args.output {
        Format::Json | Format::Yaml => {
            let objects: serde_json::Map<_, _> =
                counts.iter().map(|(k, n)| (k.to_string(), json!(n))).collect();
            let value = json!({"valid": true, "objects": objects, "statuses": statuses});
            if args.output == Format::Json {
                pretty_json(&value)?
            } else {
                serde_saphyr::to_string(&value)
                    .map_err(|e| Error::internal(format!("cannot render YAML: {e}")))?
            }
        }
        Format::Csv => {
            let rows: Vec<String> = counts.iter().map(|(k, n)| format!("{k},{n}\n")).collect();
            format!("object,count\n{}", rows.concat())
        }
        Format::Table | Format::Wide => {
            let rows = counts.iter().map(|(k, n)| vec![(*k).to_owned(), n.to_string()]).collect();
            let counts = aligned(header(["OBJECT", "COUNT"]), rows);
            // What went well is in `get`.
            let bad: Vec<Vec<String>> = statuses
                .iter()
                .filter(|s| !s.is_good())
                .map(|s| vec![s.object.clone(), s.key.clone(), s.value.clone()])
                .collect();
            let statuses = match bad.is_empty() {
                true => String::new(),
                false => format!("\n{}\n", aligned(header(["OBJECT", "KEY", "STATUS"]), bad)),
            };
            format!("{counts}{statuses}valid\n")
        }
    };
    print(&text)?;
    Ok(Exit::Ok)
}

fn header<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}
