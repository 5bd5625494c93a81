//! A former report beside this one.

use super::report::{Report, Row, SCHEMA};
use crate::exit::Error;
use std::path::Path;

/// Reads a former report, as `tierlab bench -o json` wrote it.
pub fn former(path: &Path) -> Result<Report, Error> {
    let fail = |what: String| {
        let help = "write one with 'tierlab bench ... -o json'";
        Error::input(format!("{}: {what}; {help}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|e| fail(format!("it is no report of a benchmark: {e}")))?;
    if report.schema != SCHEMA {
        return Err(fail(format!("its schema is '{}' and not '{SCHEMA}'", report.schema)));
    }
    Ok(report)
}

/// Sets the ratios of a report's rows to those of a former one, and returns the rows that are slower by more than
/// `tolerance` percent.
pub fn compare<'a>(
    now: &'a mut Report,
    former: &Report,
    tolerance: f64,
) -> Result<Vec<&'a Row>, Error> {
    let mut known = false;
    for row in &mut now.rows {
        let Some(before) = former.rows.iter().find(|before| before.is_like(row)) else { continue };
        known = true;
        row.ratio = (before.mpps > 0.0).then(|| row.mpps / before.mpps);
    }
    if !known {
        let help = "a row is the same if work, flows, rules, services, routes, size, IP, workers, new sessions and changes are";
        return Err(Error::input(format!("the former report has none of these rows: {help}")));
    }
    let slower = |row: &&Row| row.ratio.is_some_and(|ratio| ratio < 1.0 - tolerance / 100.0);
    Ok(now.rows.iter().filter(slower).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn report(rows: &[(&str, f64)]) -> Report {
        let row = |(work, mpps): &(&str, f64)| Row {
            work: (*work).to_owned(),
            mpps: *mpps,
            ..Row::default()
        };
        Report {
            schema: SCHEMA.to_owned(),
            rows: rows.iter().map(row).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn a_row_is_slow_beyond_the_tolerance_and_not_within() {
        let before = report(&[("l2", 10.0), ("dfw", 10.0), ("slb", 10.0)]);
        let mut now = report(&[("l2", 9.01), ("dfw", 8.99), ("chain", 1.0)]);
        let slow: Vec<String> =
            compare(&mut now, &before, 10.0).unwrap().iter().map(|r| r.work.clone()).collect();
        assert_eq!(slow, ["dfw"]);
        let ratios: Vec<Option<f64>> = now.rows.iter().map(|r| r.ratio).collect();
        assert_eq!(ratios, [Some(0.901), Some(0.899), None]);
    }

    #[test]
    fn reports_without_a_common_row_cannot_be_compared() {
        let mut now = report(&[("l2", 1.0)]);
        assert!(compare(&mut now, &report(&[("dfw", 1.0)]), 10.0).is_err());
        let mut other = report(&[("l2", 1.0)]);
        other.rows[0].flows = 7;
        assert!(compare(&mut now, &other, 10.0).is_err());
    }

    #[test]
    fn what_is_no_report_is_told_by_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            "",
            "[]",
            "{\"rows\": 3}",
            "{\"schema\": \"other/1\", \"machine\": {}, \"rows\": [], \"skipped\": []}",
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = former(file.path()).unwrap_err();
            assert!(
                error.message.contains(&file.path().display().to_string()),
                "{}",
                error.message
            );
        }
        let written = report(&[("l2", 1.5)]);
        std::fs::write(file.path(), written.json().unwrap()).unwrap();
        assert_eq!(former(file.path()).unwrap(), written);
    }
}
