//! Benchmarks; see `benches/`. `cargo bench -p tierlab-benches` runs them.
