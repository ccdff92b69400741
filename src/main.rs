//! The executable `hybrid-hook`.

fn main() {}
