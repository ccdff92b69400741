//! The registry: which lease holds which address, on disk.
