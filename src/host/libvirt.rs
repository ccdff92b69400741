//! libvirt, through the helper `hybrid-libvirt`.
