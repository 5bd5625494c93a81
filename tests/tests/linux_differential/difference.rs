//! Where Linux and tierlab differ, and where docs/linux.md says that they do.

use std::collections::BTreeSet;
use std::fmt;

use crate::wire::{Captured, End, Step};

/// One field of one frame that is not the same, or frames that only one side has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub scenario: String,
    pub end: String,
    pub field: String,
    pub linux: String,
    pub tierlab: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { scenario, end, field, linux, tierlab } = self;
        write!(f, "| {scenario} | {end} | {field} | {linux} | {tierlab} |")
    }
}

/// A row of the table in the document: a difference, with `any` as a wildcard.
#[derive(Debug)]
pub struct Explained(pub Difference);

impl Explained {
    fn covers(&self, found: &Difference) -> bool {
        let Explained(row) = self;
        let same = |row: &str, found: &str| row == "any" || row == found;
        row.scenario == found.scenario
            && same(&row.end, &found.end)
            && same(&row.field, &found.field)
            && same(&row.linux, &found.linux)
            && same(&row.tierlab, &found.tierlab)
    }
}

/// What is different in one scenario. A step that tierlab never came to is not counted again: the one
/// before says what stopped it.
pub fn compare(scenario: &str, linux: &[Step], tierlab: &[Step]) -> BTreeSet<Difference> {
    let mut found = BTreeSet::new();
    for (linux, tierlab) in linux.iter().zip(tierlab) {
        for end in End::ALL {
            let frames = |step: &Step| step.get(&end).cloned().unwrap_or_default();
            for (field, linux, tierlab) in fields(&frames(linux), &frames(tierlab)) {
                let (scenario, end) = (scenario.to_owned(), end.name().to_owned());
                found.insert(Difference { scenario, end, field, linux, tierlab });
            }
        }
    }
    found
}

fn fields(linux: &[Captured], tierlab: &[Captured]) -> Vec<(String, String, String)> {
    let summary = |frames: &[Captured]| {
        let all: Vec<&str> = frames.iter().map(|frame| frame.summary.as_str()).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let (there, here) = (summary(linux), summary(tierlab));
    if there != here {
        return vec![("frames".to_owned(), there, here)];
    }
    let mut out = Vec::new();
    for (linux, tierlab) in linux.iter().zip(tierlab) {
        let names = |frame: &Captured| frame.fields.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
        let mut all = names(linux);
        all.extend(
            names(tierlab).into_iter().filter(|name| !linux.fields.iter().any(|f| f.0 == *name)),
        );
        for name in all {
            let value = |frame: &Captured| {
                let field = frame.fields.iter().find(|f| f.0 == name);
                field.map_or_else(|| "absent".to_owned(), |f| f.1.clone())
            };
            let (there, here) = (value(linux), value(tierlab));
            if there != here {
                out.push((name, there, here));
            }
        }
    }
    out
}

/// The head of the table in the document.
const HEAD: &str = "| scenario | at | field | Linux | tierlab | why |";

/// The rows of the table in the document; one that names several scenarios counts as one for each.
pub fn explained(document: &str) -> Vec<Explained> {
    let mut lines = document.lines().skip_while(|line| *line != HEAD);
    assert_eq!(lines.next(), Some(HEAD), "docs/linux.md has no table of differences");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.flat_map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
        let cells: Vec<String> = cells.collect();
        let [scenarios, end, field, linux, tierlab, why] = cells.try_into().unwrap_or_else(|_| {
            panic!("docs/linux.md: not six cells: {line}");
        });
        assert!(!why.is_empty(), "docs/linux.md: no explanation: {line}");
        let row = Difference { scenario: String::new(), end, field, linux, tierlab };
        let of =
            |scenario: &str| Explained(Difference { scenario: scenario.to_owned(), ..row.clone() });
        scenarios.split(", ").map(of).collect::<Vec<_>>()
    })
    .collect()
}

/// What the document does not explain, and which of its rows explain nothing.
pub fn unaccounted(found: &BTreeSet<Difference>, document: &[Explained]) -> Vec<String> {
    let new = found.iter().filter(|difference| !document.iter().any(|row| row.covers(difference)));
    let new = new.map(|difference| format!("not explained: {difference}"));
    let stale = document.iter().filter(|row| !found.iter().any(|d| row.covers(d)));
    let stale = stale.map(|row| format!("explained, but not so: {}", row.0));
    new.chain(stale).collect()
}
