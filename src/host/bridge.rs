//! The bridge, its ports and addresses, by netlink.
