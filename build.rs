//! How `hybrid-hook` is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address. Every start of anybody's VM runs this executable, and as a position-independent
    // one it spent a seventh of that time on 8,400 relocations. Stack, heap and libraries are at
    // random addresses all the same; the helper, which links libvirt, stays position-independent.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bin=hybrid-hook=-no-pie");
    }
}
