//! What libvirt itself makes of our XML.
