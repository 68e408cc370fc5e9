//! The C ABI. Every exported function is: check, convert, call, convert back; nothing about ACME
//! is decided here. The only unsafe code of the library stands in this folder, and most of it in
//! `boundary.rs` and `handle.rs`.
#![cfg(feature = "capi")]
#![allow(unsafe_code, non_camel_case_types, clippy::missing_safety_doc)]

mod authorization;
mod begin;
mod boundary;
mod built_in;
mod cert;
mod client;
mod csr;
mod driver;
mod error;
mod handle;
mod key;
mod library;
mod op;
mod options;
mod run;
mod shown;
mod status;
