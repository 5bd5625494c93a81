//! What a misspelt name was meant to be.

use crate::node::MAX_COMPARED;

/// `did you mean` the nearest of `known`, or the list of them where it is short.
pub(crate) fn suggestion<'a>(
    found: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    // A name this long is nobody's typing error, and comparing it would cost.
    if found.len() <= 64 {
        let nearest = known
            .clone()
            .take(MAX_COMPARED)
            .filter(|name| name.len() <= 64)
            .map(|name| (distance(found, name), name))
            .min();
        if let Some((distance, name)) = nearest
            && distance <= 1 + found.len() / 3
            && distance < found.len()
        {
            return Some(format!("did you mean '{name}'?"));
        }
    }
    let names: Vec<&str> = known.take(13).collect();
    (!names.is_empty() && names.len() <= 12).then(|| format!("known are {}", names.join(", ")))
}

/// The one of `known` that `found` is a typing error of: at most two letters differ, and fewer than half of them.
pub(crate) fn typing_error<'a>(
    found: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if found.len() > 64 {
        return None;
    }
    let (distance, name) = known.map(|name| (distance(found, name), name)).min()?;
    (distance <= 2 && 2 * distance < name.len().min(found.len())).then_some(name)
}

/// Levenshtein's distance, blind to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().flat_map(char::to_lowercase).enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(ca != *cb)).min(left + 1).min(above + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
