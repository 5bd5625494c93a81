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
    let text = match args.output {
        Format::Json | Format::Yaml => {
            let value = json!({"valid": true, "objects": counts.iter().map(|(k, n)| (k.to_string(), json!(n))).collect::<serde_json::Map<_, _>>()});
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
            format!("{}valid\n", aligned(vec!["OBJECT".to_owned(), "COUNT".to_owned()], rows))
        }
    };
    print(&text)?;
    Ok(Exit::Ok)
}
