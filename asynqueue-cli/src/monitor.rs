//! `asynqueue monitor`: serves the web monitor of a broker.

use asynqueue::{
    Monitor,
    layer::BoxError,
    monitor::{Role, ServeError},
    shutdown_signal,
};
use clap::Args;

/// What to serve, and to whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the tasks are kept: `redis://host`, …
    #[arg(long)]
    broker: String,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8089")]
    listen: String,
    /// The path below which the pages are.
    #[arg(long, default_value = "/")]
    path: String,
    /// The path that browsers have before that of a page, where a proxy takes it away.
    #[arg(long)]
    base: Option<String>,
    /// Who has to log in. Their password, or its argon2 hash, is taken from the environment.
    #[arg(long, requires = "password")]
    username: Option<String>,
    /// Not an argument, which other users of the machine could see.
    #[arg(
        long,
        env = "ASYNQUEUE_MONITOR_PASSWORD",
        hide_env_values = true,
        requires = "username"
    )]
    password: Option<String>,
    /// The Prometheus whose charts to show: `http://host:9090`.
    #[arg(long)]
    prometheus: Option<String>,
    /// Names of fields whose values nobody is to see, such as `password,iban`.
    #[arg(long, value_delimiter = ',')]
    redact: Vec<String>,
    /// Let nobody change anything.
    #[arg(long)]
    read_only: bool,
    /// Let everyone in who reaches the address, without a password.
    #[arg(long)]
    open_to_all: bool,
}

/// Serves until it is told to stop. Who has changed what is told in lines of the error output.
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let broker = asynqueue::connect(&options.broker).await?;
    let monitor = Monitor::new(broker).path(&options.path);
    let mut monitor = monitor.redact(&options.redact);
    if let (Some(name), Some(password)) = (&options.username, &options.password) {
        monitor = monitor.user(name, password, Role::Admin)?;
    }
    if let Some(url) = &options.prometheus {
        monitor = monitor.prometheus(url)?;
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
            let hint = "here by `--username` or `--open-to-all`";
            return Err(format!("{error}: {hint}").into());
        }
        served => served?,
    };
    // Who reads the address may stop it at once.
    let stop = shutdown_signal();
    println!("http://{}{}", endpoint.address(), monitor.served_path());
    stop.await;
    endpoint.shutdown().await;
    Ok(())
}
