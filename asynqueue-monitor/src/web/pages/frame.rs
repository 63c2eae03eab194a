//! The frame around the content of each page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::web::{
    assets, brokers::Switcher, direction::directed, request::View, settings::Theme,
    version::version_of_jobs,
};

/// The pages in the navigation bar: path and label.
const PLACES: [(&str, &str); 11] = [
    ("", "Queues"),
    ("failures", "Failures"),
    ("charts", "Metrics"),
    ("events", "Events"),
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
        let body = html! {
            body data-live=(self.links.page("live")) data-refresh=(self.settings.refresh) data-now=(self.now.as_millis()) {
                header { (self.header()) }
                (stale())
                main { h1 { (title) } (self.jobs()) (content) }
                (keys())
            }
        };
        let more = html! {
            script type="module" src=(self.links.page(&assets::path("main.js"))) {}
            @if self.shared.jobs.is_busy() || self.is_searching() {
                noscript { meta http-equiv="refresh" content="2"; }
            }
        };
        self.document(title, more, body)
    }

    /// A page for callers that have not logged in: it shows nothing of the broker.
    pub(super) fn bare_page(&self, title: &str, content: Markup) -> Markup {
        let body = html! {
            body {
                header { (self.strip(None)) span.brand { (self.shared.face.title()) } }
                main { h1 { (title) } (content) }
            }
        };
        self.document(title, html! {}, body)
    }

    fn document(&self, title: &str, more: Markup, body: Markup) -> Markup {
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
                    title { (self.title(title)) }
                    // In the page: without it, browsers request `/favicon.ico`, outside the path of the monitor.
                    link rel="icon" href=(self.shared.face.icon());
                    link rel="stylesheet" href=(self.links.page(&assets::path("style.css")));
                    @if let Some(path) = self.shared.face.style_sheet() {
                        link rel="stylesheet" href=(self.links.page(&path));
                    }
                    (more)
                }
                (body)
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
            (self.strip(self.shared.switcher.as_ref()))
            a.brand href=(self.links.page("")) { (self.shared.face.title()) }
            nav aria-label="Pages" {
                @for (path, name) in PLACES {
                    a href=(self.links.page(path)) aria-current=[self.is_at(path).then_some("page")] { (name) }
                }
            }
            form.find action=(self.links.page("search")) role="search" {
                input type="search" name="q" placeholder="Search" aria-label="Search all queues by ID, header, payload or error";
            }
            a.user href=(self.links.page("settings")) title=(format!("{}, {access}: open settings", self.user.name)) { (self.user.name) }
            @if self.has_session {
                form.out method="post" action=(self.links.page("logout")) { button { "Log out" } }
            }
        }
    }

    /// The title of a page, with those of the broker and the installation.
    fn title(&self, title: &str) -> String {
        let face = &self.shared.face;
        let broker = self.shared.switcher.as_ref();
        let broker = broker.map(|switcher| switcher.this.as_str());
        let parts = [
            Some(title),
            broker,
            face.name.as_deref(),
            Some(face.title()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }

    /// The strip in the color of the installation, with the switcher of brokers.
    fn strip(&self, switcher: Option<&Switcher>) -> Markup {
        let face = &self.shared.face;
        html! {
            @if face.name.is_some() || face.color.is_some() || switcher.is_some() {
                div.face {
                    @if let Some(name) = &face.name { strong { (name) } }
                    @if let Some(switcher) = switcher {
                        nav aria-label="Brokers" {
                            @for name in &*switcher.names {
                                a href=(self.beside(switcher, name)) aria-current=[(*name == switcher.this).then_some("true")] { (name) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The URL of the same page of another broker, or of its overview if the page may not exist there.
    fn beside(&self, switcher: &Switcher, name: &str) -> String {
        let root = switcher.root(&self.links.page(""));
        let places = PLACES.iter().map(|(path, _)| *path);
        match places.chain(["settings"]).find(|path| *path == self.place) {
            Some(place) if !place.is_empty() => format!("{root}/{name}/{place}"),
            _ => format!("{root}/{name}"),
        }
    }

    /// Whether the page shows a search that is in progress.
    fn is_searching(&self) -> bool {
        self.place == "search" && self.shared.searches.is_busy(&self.user.name)
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
        ("/", "Focus the filter or the search"),
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
