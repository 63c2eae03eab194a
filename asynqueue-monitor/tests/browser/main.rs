//! The web monitor in a browser, on a real Redis.

mod browser;
mod pages;
mod system;
