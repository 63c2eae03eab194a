//! The web monitor, over HTTP.

mod access;
mod actions;
mod pages;
mod site;
