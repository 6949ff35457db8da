//! The same pipeline against a scripted server.
