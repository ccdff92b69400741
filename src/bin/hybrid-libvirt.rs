//! The helper that links libvirt.

fn main() {}
