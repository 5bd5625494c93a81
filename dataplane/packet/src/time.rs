//! Time as the core sees it: handed in, never read from a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, in nanoseconds since the lab started. Range: about 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The moment the lab started.
    pub const ZERO: Time = Time(0);
    /// Later than every moment a lab reaches.
    pub const NEVER: Time = Time(u64::MAX);

    /// A moment this many whole seconds after the start.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Time {
        Time(secs.saturating_mul(1_000_000_000))
    }

    /// A moment this many milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis.saturating_mul(1_000_000))
    }

    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

/// Seconds with exactly the fraction that is needed, e.g. `12s`, `0.3s`, `0.000000001s`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if nanos == 0 {
            return write!(f, "{seconds}s");
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_exactly() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "0.000000001s"),
            (300_000_000, "0.3s"),
            (12_000_000_000, "12s"),
            (1_000_000_001, "1.000000001s"),
            (10_050_000_000, "10.05s"),
            // Beyond the 53 bits of a float's fraction.
            (9_007_199_254_740_993, "9007199.254740993s"),
            (u64::MAX, "18446744073.709551615s"),
        ] {
            assert_eq!(Time(nanos).to_string(), expected);
        }
    }
}
