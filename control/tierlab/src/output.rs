//! Tables for people and their twins for programs.
//!
//! A row is a struct: `-o json` and `-o yaml` are its serde form, with stable field names; the text
//! table and CSV are its cells.

use crate::exit::Error;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table as Pretty, presets};
use realization::logical::{Column, Row};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// Aligned columns, all of them
    Wide,
    /// An array of objects
    Json,
    /// The same as YAML
    Yaml,
    /// Comma-separated values with a header (RFC 4180)
    Csv,
}

/// Rows in the format asked for, with a newline at the end.
pub fn render<R: Row>(rows: &[R], format: Format) -> Result<String, Error> {
    let json = || {
        serde_json::to_value(rows)
            .map_err(|e| Error::internal(format!("cannot render the table: {e}")))
    };
    match format {
        Format::Table => Ok(pretty::<R>(rows, false)),
        Format::Wide => Ok(pretty::<R>(rows, true)),
        Format::Json => pretty_json(&json()?),
        Format::Yaml => serde_saphyr::to_string(&json()?)
            .map_err(|e| Error::internal(format!("cannot render the table: {e}"))),
        Format::Csv => Ok(csv::<R>(rows)),
    }
}

/// A JSON value over several lines.
pub fn pretty_json(value: &Value) -> Result<String, Error> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| Error::internal(format!("cannot render JSON: {e}")))
}

fn pretty<R: Row>(rows: &[R], all: bool) -> String {
    let shown = |column: &&Column| all || !column.wide;
    let header = R::COLUMNS.iter().filter(shown).map(|c| c.name.to_owned()).collect();
    let body = rows
        .iter()
        .map(|row| {
            let cells = row.cells();
            R::COLUMNS.iter().zip(cells).filter(|(c, _)| shown(c)).map(|(_, v)| v).collect()
        })
        .collect();
    aligned(header, body)
}

/// Columns aligned with two blanks between them. Text from manifests cannot move the cursor or
/// colour the terminal.
pub fn aligned(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Pretty::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn csv<R: Row>(rows: &[R]) -> String {
    let header = R::COLUMNS.iter().map(|c| c.name.to_lowercase()).collect();
    let mut out = csv_line(header);
    for row in rows {
        out.push_str(&csv_line(row.cells()));
    }
    out
}

fn csv_line(fields: Vec<String>) -> String {
    fields.iter().map(|f| quote(&printable(f))).collect::<Vec<_>>().join(",") + "\n"
}

/// `s` with control characters escaped.
pub fn printable(s: &str) -> String {
    s.chars()
        .flat_map(|c| {
            let escaped: Vec<char> =
                if c.is_control() { c.escape_default().collect() } else { vec![c] };
            escaped
        })
        .collect()
}

fn quote(field: &str) -> String {
    if field.contains([',', '"']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Prints to standard output. A reader that has gone (`| head`) ends the program in peace.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::environment(format!("cannot write to standard output: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// Whether standard output is a terminal that wants bold text.
pub fn wants_bold() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// `text` in bold, if `wanted`.
pub fn bold(text: &str, wanted: bool) -> String {
    if wanted { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[derive(Serialize)]
    struct Line {
        name: &'static str,
        port: u16,
        origin: Option<&'static str>,
    }

    impl Row for Line {
        const COLUMNS: &'static [Column] = &[
            Column { name: "NAME", wide: false },
            Column { name: "PORT", wide: false },
            Column { name: "ORIGIN", wide: true },
        ];
        fn cells(&self) -> Vec<String> {
            vec![self.name.into(), self.port.to_string(), self.origin.unwrap_or("-").into()]
        }
    }

    fn lines() -> Vec<Line> {
        vec![
            Line { name: "a,b", port: 80, origin: Some("x\u{1b}[31m") },
            Line { name: "long-name", port: 443, origin: None },
        ]
    }

    #[test]
    fn columns_are_aligned_and_wide_ones_hidden() {
        assert_eq!(
            render(&lines(), Format::Table).unwrap(),
            "NAME       PORT\na,b        80\nlong-name  443\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(render(&lines(), Format::Wide).unwrap().contains("x\\u{1b}[31m"));
    }

    #[test]
    fn csv_is_quoted_and_complete() {
        assert_eq!(
            render(&lines(), Format::Csv).unwrap(),
            "name,port,origin\n\"a,b\",80,x\\u{1b}[31m\nlong-name,443,-\n"
        );
    }

    #[test]
    fn json_has_every_field() {
        let parsed: Value = serde_json::from_str(&render(&lines(), Format::Json).unwrap()).unwrap();
        assert_eq!(parsed[1], json!({"name": "long-name", "port": 443, "origin": null}));
    }
}
