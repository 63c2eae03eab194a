//! `asynqueue monitor`: serves the web monitor of a broker.

use asynqueue::{
    Monitor,
    layer::BoxError,
    monitor::{Role, ServeError},
    shutdown_signal,
};
use clap::Args;

/// The settings of the monitor.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of the broker, such as `redis://localhost`.
    #[arg(long, value_name = "URL")]
    broker: String,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    listen: String,
    /// Path to serve the pages under.
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// Path that browsers see before `--path`, if a proxy strips it.
    #[arg(long, value_name = "PATH")]
    base: Option<String>,
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
    // Not a rule of clap: its message would suggest the argument, which other users can read.
    if let (Some(name), None) = (&options.username, &options.password) {
        return Err(format!(
            "user `{name}` has no password: set the variable `ASYNQUEUE_MONITOR_PASSWORD` to it or to its argon2 hash"
        )
        .into());
    }
    let broker = asynqueue::connect(&options.broker).await?;
    let monitor = Monitor::new(broker).path(&options.path);
    let mut monitor = monitor.redact(&options.redact);
    if let (Some(name), Some(password)) = (&options.username, &options.password) {
        monitor = monitor.user(name, password, Role::Admin)?;
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
    let endpoint = match monitor.serve(options.listen.as_str()).await {
        Err(error @ ServeError::Unguarded { .. }) => {
            let hint = "on the command line, use `--username` or `--open-to-all`";
            return Err(format!("{error}; {hint}").into());
        }
        served => served?,
    };
    // Before printing: a caller that reads the address may send the signal immediately.
    let stop = shutdown_signal();
    println!("http://{}{}", endpoint.address(), monitor.served_path());
    stop.await;
    endpoint.shutdown().await;
    Ok(())
}
