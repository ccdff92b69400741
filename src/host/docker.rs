//! Docker, by its API.
