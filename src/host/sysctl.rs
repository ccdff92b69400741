//! Kernel settings of an interface.
