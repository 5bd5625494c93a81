//! Outcomes for people, for programs and for CI: text, JSON, JUnit XML and TAP.

use super::{Status, TestOutcome};
use crate::output::printable;
use serde::{Serialize, Serializer};
use std::fmt::Write;
use std::time::Duration;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that did not, those that could not be run included.
    pub failed: usize,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(outcomes: &[TestOutcome]) -> Summary {
        let passed = outcomes.iter().filter(|outcome| outcome.passed()).count();
        Summary { passed, failed: outcomes.len() - passed }
    }
}

/// `N passed, N failed`.
impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A line a test, the message of each that did not pass below it, and the closing line.
#[must_use]
pub fn text(outcomes: &[TestOutcome]) -> String {
    let mut out = String::new();
    for (number, outcome) in (1..).zip(outcomes) {
        let word = match outcome.status {
            Status::Passed => "ok",
            Status::Failed => "FAILED",
            Status::BadInput => "BAD INPUT",
        };
        let extent = extent(outcome);
        line(&mut out, &format!("{word} {number}  {}  ({extent})", outcome.name));
        for message in outcome.message.iter().flat_map(|message| message.lines()) {
            line(&mut out, &format!("    {message}"));
        }
    }
    line(&mut out, &Summary::of(outcomes).to_string());
    out
}

/// `6 steps, 3h virtual`.
fn extent(outcome: &TestOutcome) -> String {
    let steps = if outcome.steps == 1 { "step" } else { "steps" };
    format!("{} {steps}, {} virtual", outcome.steps, span(outcome.virtual_time))
}

/// One JSON object: `tests` as an array of [`TestOutcome`], `passed` and `failed` as counts.
///
/// # Errors
/// None that these types can cause; those of the serializer.
pub fn json(outcomes: &[TestOutcome]) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Document<'o> {
        tests: &'o [TestOutcome],
        #[serde(flatten)]
        summary: Summary,
    }
    let document = Document { tests: outcomes, summary: Summary::of(outcomes) };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

/// Test Anything Protocol, version 13: messages are diagnostic lines below their test.
#[must_use]
pub fn tap(outcomes: &[TestOutcome]) -> String {
    let mut out = String::new();
    line(&mut out, "TAP version 13");
    line(&mut out, &format!("1..{}", outcomes.len()));
    for (number, outcome) in (1..).zip(outcomes) {
        let word = if outcome.passed() { "ok" } else { "not ok" };
        line(&mut out, &format!("{word} {number} - {}", outcome.name));
        for message in outcome.message.iter().flat_map(|message| message.lines()) {
            line(&mut out, &format!("# {message}"));
        }
    }
    out
}

/// JUnit XML as CI systems read it. Durations are left out: only virtual time passed, and that stands
/// in a property.
#[must_use]
pub fn junit(outcomes: &[TestOutcome]) -> String {
    let bad_input = outcomes.iter().filter(|o| o.status == Status::BadInput).count();
    let failed = Summary::of(outcomes).failed - bad_input;
    let mut out = String::new();
    line(&mut out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    line(
        &mut out,
        &format!(
            "<testsuite name=\"tierlab\" tests=\"{}\" failures=\"{failed}\" errors=\"{bad_input}\">",
            outcomes.len()
        ),
    );
    for outcome in outcomes {
        line(
            &mut out,
            &format!(
                "  <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\">",
                xml(&outcome.file),
                xml(&outcome.name),
                xml(&outcome.file),
                outcome.line
            ),
        );
        line(
            &mut out,
            &format!(
                "    <properties><property name=\"virtual-time\" value=\"{}\"/></properties>",
                span(outcome.virtual_time)
            ),
        );
        if let Some(message) = &outcome.message {
            let element = if outcome.status == Status::BadInput { "error" } else { "failure" };
            // Its line breaks stay.
            let lines: Vec<String> = message.lines().map(|text| xml(&printable(text))).collect();
            let first = lines.first().map_or("", String::as_str);
            let all = lines.join("\n");
            out.push_str(&format!("    <{element} message=\"{first}\">{all}</{element}>\n"));
        }
        line(&mut out, "  </testcase>");
    }
    line(&mut out, "</testsuite>");
    out
}

/// Adds a line. Names of files and what frames carried cannot move the cursor or colour the terminal.
fn line(out: &mut String, text: &str) {
    out.push_str(&printable(text));
    out.push('\n');
}

/// Escapes for XML 1.0, text and attributes; characters that XML cannot hold become U+FFFD.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A length of time as definitions write it, largest unit first: `3h`, `1h30m`, `500ms`, `0s`.
pub(super) fn span(duration: Duration) -> String {
    const UNITS: [(&str, u128); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = duration.as_nanos();
    let mut out = String::new();
    for (unit, nanos) in UNITS {
        if rest >= nanos {
            let _ = write!(out, "{}{unit}", rest / nanos);
            rest %= nanos;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Writes a duration as seconds with a fraction.
pub(super) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn outcomes() -> Vec<TestOutcome> {
        let outcome = |name: &str, line, status, message: Option<&str>, steps, secs| TestOutcome {
            name: name.to_owned(),
            file: "tests/a.yaml".to_owned(),
            line,
            status,
            message: message.map(str::to_owned),
            steps,
            virtual_time: Duration::from_secs(secs),
        };
        vec![
            outcome("a", 1, Status::Passed, None, 6, 3 * 3600),
            outcome("b", 9, Status::Failed, Some("tests/a.yaml:9: x > \"y\" & z\n  seen"), 1, 0),
            outcome("c", 20, Status::BadInput, Some("tests/a.yaml:20: no"), 2, 5400),
        ]
    }

    #[test]
    fn for_people() {
        assert_eq!(
            text(&outcomes()),
            "ok 1  a  (6 steps, 3h virtual)\n\
             FAILED 2  b  (1 step, 0s virtual)\n    tests/a.yaml:9: x > \"y\" & z\n      seen\n\
             BAD INPUT 3  c  (2 steps, 1h30m virtual)\n    tests/a.yaml:20: no\n\
             1 passed, 2 failed\n"
        );
        assert_eq!(text(&[]), "0 passed, 0 failed\n");
    }

    #[test]
    fn for_programs() {
        let value: serde_json::Value = serde_json::from_str(&json(&outcomes()).unwrap()).unwrap();
        assert_eq!(value["passed"], 1);
        assert_eq!(value["failed"], 2);
        assert_eq!(value["tests"][0]["virtualSeconds"], 10_800.0);
        assert_eq!(value["tests"][0]["status"], "passed");
        assert!(value["tests"][0].get("message").is_none());
        assert_eq!(value["tests"][2]["status"], "bad-input");
        assert_eq!(value["tests"][1]["line"], 9);
    }

    #[test]
    fn for_ci() {
        assert_eq!(
            tap(&outcomes()),
            "TAP version 13\n1..3\nok 1 - a\nnot ok 2 - b\n# tests/a.yaml:9: x > \"y\" & z\n#   seen\n\
             not ok 3 - c\n# tests/a.yaml:20: no\n"
        );
        let xml = junit(&outcomes());
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{xml}");
        assert!(
            xml.contains("<failure message=\"tests/a.yaml:9: x &gt; &quot;y&quot; &amp; z\">"),
            "{xml}"
        );
        assert!(xml.contains("<error message=\"tests/a.yaml:20: no\">"), "{xml}");
    }

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        let mut all = outcomes();
        for outcome in &mut all {
            outcome.name.push_str("\u{1b}[31m\u{9b}");
            outcome.message = Some("a\u{1b}[31m\nb\u{7}".to_owned());
        }
        for rendered in [text(&all), tap(&all), junit(&all)] {
            assert!(!rendered.contains(|c: char| c.is_control() && c != '\n'), "{rendered:?}");
        }
        assert!(text(&all).contains("    a\\u{1b}[31m\n    b\\u{7}\n"), "{}", text(&all));
    }

    #[test]
    fn xml_holds_no_control_characters() {
        assert_eq!(super::xml("a\u{1}\u{1b}b\n"), "a\u{fffd}\u{fffd}b\n");
    }

    #[test]
    fn spans() {
        for (nanos, expected) in [
            (0, "0s"),
            (500_000_000, "500ms"),
            (90_061_000_000_000, "1d1h1m1s"),
            (1_500_000_001, "1s500ms1ns"),
        ] {
            assert_eq!(span(Duration::from_nanos(nanos)), expected);
        }
    }
}
