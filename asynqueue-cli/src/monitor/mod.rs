//! `asynqueue monitor`: serves the web monitor of a broker.

mod brokers;
mod users;

use std::{path::PathBuf, time::Duration};

use asynqueue::{
    Monitor,
    layer::BoxError,
    monitor::{Endpoint, Monitors, Role, ServeError},
    shutdown_signal,
};
use clap::Args;

/// How long the first attempt to connect delays the start.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

/// The settings of the monitor.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of the broker, such as `redis://localhost`. Several brokers have names, as in `--broker eu=redis://eu --broker
    /// us=redis://us`; in the variable, a space separates them. Set a URL with a password in the environment: other users
    /// of the machine can read arguments.
    #[arg(
        long,
        env = "ASYNQUEUE_BROKER",
        hide_env_values = true,
        value_name = "[NAME=]URL",
        required = true
    )]
    broker: Vec<String>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    listen: String,
    /// Path to serve the pages under.
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// Path that browsers see before `--path`, if a proxy strips it.
    #[arg(long, value_name = "PATH")]
    base: Option<String>,
    /// Name of this installation, such as `production`, for titles and headers of pages.
    #[arg(long, env = "ASYNQUEUE_MONITOR_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Title of the monitor in place of `asynqueue`.
    #[arg(long, env = "ASYNQUEUE_MONITOR_TITLE", value_name = "TEXT")]
    title: Option<String>,
    /// Color of this installation for headers and icons of pages, such as `red` or `#b3261e`.
    #[arg(long, env = "ASYNQUEUE_MONITOR_COLOR", value_name = "COLOR")]
    color: Option<String>,
    /// User who must log in. Requires the password in the variable `ASYNQUEUE_MONITOR_PASSWORD`.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Password of the user, or its argon2 hash. Set it in the environment: other users of the machine can read
    /// arguments.
    #[arg(
        long,
        env = "ASYNQUEUE_MONITOR_PASSWORD",
        hide_env_values = true,
        requires = "username"
    )]
    password: Option<String>,
    /// File with users who must log in, one `name:role:password` per line. The role is `viewer` or `admin`, and the
    /// password may be an argon2 hash. The variable `ASYNQUEUE_MONITOR_USERS` can have the same lines.
    #[arg(long, env = "ASYNQUEUE_MONITOR_USERS_FILE", value_name = "FILE")]
    users_file: Option<PathBuf>,
    /// URL of a Prometheus server to show charts from, such as `http://localhost:9090`.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// URLs that receive a JSON request when a problem appears or clears. Set them in the environment: other users of the
    /// machine can read arguments, and these URLs often contain a password.
    #[arg(
        long,
        value_name = "URLS",
        env = "ASYNQUEUE_MONITOR_WEBHOOKS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    webhook: Vec<String>,
    /// The same for Slack and compatible chats.
    #[arg(
        long,
        value_name = "URLS",
        env = "ASYNQUEUE_MONITOR_SLACK",
        hide_env_values = true,
        value_delimiter = ','
    )]
    slack: Vec<String>,
    /// Payload fields to hide, such as `password,iban`.
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    redact: Vec<String>,
    /// Disable all changes.
    #[arg(long)]
    read_only: bool,
    /// Serve everyone who can reach the address, without a password.
    #[arg(long)]
    open_to_all: bool,
}

/// Serves until a shutdown signal. Logs changes and failed logins to standard error.
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let accounts = accounts(options)?;
    // Together, so that brokers that do not respond delay the start only once.
    let brokers = brokers::read(&options.broker)?.into_iter();
    let connecting = brokers.map(|(name, url)| (name, tokio::spawn(monitor_of(url))));
    let connecting: Vec<_> = connecting.collect();
    let mut monitors = Vec::new();
    for (name, monitor) in connecting {
        let mut monitor = with_settings(monitor.await??, options)?;
        // All share the users of the first.
        let accounts = accounts.iter().filter(|_| monitors.is_empty());
        for (name, password, role) in accounts {
            monitor = monitor.user(name, password, *role)?;
        }
        monitors.push((name, monitor));
    }
    let (endpoint, path) = match served(monitors, &options.listen).await {
        Err(error @ ServeError::Unguarded { .. }) => {
            let hint = "on the command line, use `--username`, `--users-file` or `--open-to-all`";
            return Err(format!("{error}; {hint}").into());
        }
        served => served?,
    };
    // Before printing: a caller that reads the address may send the signal immediately.
    let stop = shutdown_signal();
    println!("http://{}{}", endpoint.address(), path);
    stop.await;
    endpoint.shutdown().await;
    Ok(())
}

/// Serves one broker at the path, or several below it. Returns the path too.
async fn served(
    mut monitors: Vec<(Option<String>, Monitor)>,
    listen: &str,
) -> Result<(Endpoint, String), ServeError> {
    if let [(None, monitor)] = monitors.as_slice() {
        let endpoint = monitor.serve(listen).await?;
        return Ok((endpoint, monitor.served_path().to_owned()));
    }
    let named = monitors.drain(..);
    let monitors = Monitors::of(named.map(|(name, monitor)| (name.unwrap_or_default(), monitor)))?;
    let endpoint = monitors.serve(listen).await?;
    Ok((endpoint, monitors.served_path().to_owned()))
}

/// The monitor of a broker. One that is not reachable may become so: orchestrators start programs in any order.
async fn monitor_of(url: String) -> Result<Monitor, BoxError> {
    let first = tokio::time::timeout(FIRST_ATTEMPT, asynqueue::connect(&url)).await;
    match first {
        Ok(Ok(broker)) => Ok(Monitor::new(broker)),
        Ok(Err(error)) if error.is_invalid_url() => Err(error.into()),
        Ok(Err(_)) | Err(_) => Ok(Monitor::connecting(move || {
            let url = url.clone();
            async move { asynqueue::connect(&url).await }
        })),
    }
}

fn with_settings(mut monitor: Monitor, options: &Options) -> Result<Monitor, ServeError> {
    monitor = monitor.path(&options.path).redact(&options.redact);
    if let Some(name) = &options.name {
        monitor = monitor.name(name);
    }
    if let Some(title) = &options.title {
        monitor = monitor.title(title);
    }
    if let Some(color) = &options.color {
        monitor = monitor.color(color)?;
    }
    if let Some(url) = &options.prometheus {
        monitor = monitor.prometheus(url)?;
    }
    for url in &options.webhook {
        monitor = monitor.webhook(url)?;
    }
    for url in &options.slack {
        monitor = monitor.slack(url)?;
    }
    if let Some(base) = &options.base {
        monitor = monitor.base(base);
    }
    if options.read_only {
        monitor = monitor.read_only();
    }
    if options.open_to_all {
        monitor = monitor.open_to_all();
    }
    Ok(monitor)
}

/// All users.
fn accounts(options: &Options) -> Result<Vec<users::Account>, BoxError> {
    let mut accounts = users::read(options.users_file.as_deref())?;
    match (&options.username, &options.password) {
        (Some(name), _) if accounts.iter().any(|(known, _, _)| known == name) => {
            return Err(format!("user `{name}` is defined twice: remove one of them").into());
        }
        (Some(name), Some(password)) => {
            accounts.push((name.clone(), password.clone(), Role::Admin));
        }
        // Not a rule of clap: its message would suggest the argument, which other users can read.
        (Some(name), None) => {
            return Err(format!(
                "user `{name}` has no password: set the variable `ASYNQUEUE_MONITOR_PASSWORD` to it or to its argon2 hash"
            )
            .into());
        }
        (None, _) => {}
    }
    Ok(accounts)
}
