//! Decoding against the float64 reference.
