//! The web monitor in a browser, on a real Redis and on a SQLite file.

mod access;
mod accessible;
mod actions;
mod audit;
mod browser;
mod face;
mod failures;
mod figures;
mod large;
mod layout;
mod lost;
mod narrow;
mod pages;
mod screenshots;
mod script;
mod search;
mod sessions;
mod sqlite;
mod stale;
mod system;
mod why;
