//! The frame around the content of each page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::web::{
    assets, direction::directed, request::View, settings::Theme, version::version_of_jobs,
};

/// The pages in the navigation bar: path and label.
const PLACES: [(&str, &str); 9] = [
    ("", "Queues"),
    ("charts", "Metrics"),
    ("schedules", "Schedules"),
    ("servers", "Servers"),
    ("groups", "Groups"),
    ("subscriptions", "Subscriptions"),
    ("outboxes", "Outboxes"),
    ("storage", "Storage"),
    ("audit", "Audit"),
];

impl View {
    /// A complete page around its content.
    pub(in crate::web) fn page(&self, title: &str, content: Markup) -> Markup {
        let theme = self.settings.theme;
        let schemes = match theme {
            Theme::System => "light dark",
            theme => theme.name(),
        };
        let page = html! {
            (DOCTYPE)
            html lang="en" data-theme=(theme.name()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content=(schemes);
                    title { (title) " · asynqueue" }
                    // Otherwise browsers request `/favicon.ico`, outside the path of the monitor.
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href=(self.links.page(&assets::path("style.css")));
                    script type="module" src=(self.links.page(&assets::path("main.js"))) {}
                    @if self.shared.jobs.is_busy() {
                        noscript { meta http-equiv="refresh" content="2"; }
                    }
                }
                body data-live=(self.links.page("live")) data-refresh=(self.settings.refresh) data-now=(self.now.as_millis()) {
                    header { (self.header()) }
                    (stale())
                    main { h1 { (title) } (self.jobs()) (content) }
                    (keys())
                }
            }
        };
        PreEscaped(directed(page.into_string()))
    }

    fn header(&self) -> Markup {
        let access = if self.may_change() {
            "full access"
        } else {
            "read-only access"
        };
        html! {
            a.brand href=(self.links.page("")) { "asynqueue" }
            nav aria-label="Pages" {
                @for (path, name) in PLACES {
                    a href=(self.links.page(path)) aria-current=[self.is_at(path).then_some("page")] { (name) }
                }
            }
            form.find action=(self.links.page("find")) role="search" {
                input type="search" name="id" placeholder="Task ID" aria-label="Find a task by its ID";
            }
            a.user href=(self.links.page("settings")) title=(format!("{}, {access}: open settings", self.user.name)) { (self.user.name) }
        }
    }

    /// Whether the page belongs to an entry of the navigation bar.
    fn is_at(&self, place: &str) -> bool {
        match self.place.as_str() {
            "queues" => place.is_empty(),
            other => place == other,
        }
    }

    /// The jobs that wait, run or have just ended.
    fn jobs(&self) -> Markup {
        let jobs = self.shared.jobs.shown();
        html! {
            div id="jobs" data-fresh="jobs" data-version=(version_of_jobs(&jobs)) role="status" {
                @for job in &jobs {
                    form.notice.error[job.has_failed()] method="post" action=(self.links.page(&format!("jobs/{}", job.id))) data-job=(job.id) {
                        span { (job.text()) } " "
                        @if let Some(offer) = job.offer().filter(|_| self.may_change()) { button { (offer) } }
                    }
                }
            }
        }
    }
}

/// A banner that the script shows while no updates arrive: the reason, and the age of the figures.
fn stale() -> Markup {
    html! {
        p.error id="stale" role="alert" hidden { span {} " " span aria-hidden="true" {} }
    }
}

/// The list of keyboard shortcuts, opened by `?`.
fn keys() -> Markup {
    let keys = [
        ("/", "Focus the filter or the task search"),
        ("j", "Next row"),
        ("k", "Previous row"),
        ("x", "Select or deselect the focused task"),
        ("?", "Show this help; Escape closes it"),
    ];
    html! {
        dialog id="keys" aria-labelledby="keys-title" {
            h2 id="keys-title" { "Keyboard shortcuts" }
            dl.facts { @for (key, does) in keys { dt { kbd { (key) } } dd { (does) } } }
            form method="dialog" { button { "Close" } }
        }
    }
}
