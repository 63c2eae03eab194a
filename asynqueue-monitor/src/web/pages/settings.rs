//! The settings of one viewer.

use axum::{
    Form,
    extract::Query,
    http::header::SET_COOKIE,
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::web::{
    request::{Failed, View},
    settings::{REFRESH, Settings, Theme},
};

#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    did: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Chosen {
    #[serde(default)]
    theme: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    refresh: String,
}

pub(crate) async fn show(view: View, Query(params): Query<Params>) -> Markup {
    let Settings {
        theme,
        zone,
        refresh,
    } = &view.settings;
    view.page("Settings", html! {
        (view.notice(params.did.as_deref()))
        p.note { "Saved in a cookie in this browser." }
        form.settings method="post" {
            label { "Theme "
                select name="theme" { @for one in Theme::ALL { option value=(one.name()) selected[one == *theme] { (one.name()) } } }
            }
            label { "Time zone "
                input name="zone" value=(zone.name()) list="zones" autocomplete="off" spellcheck="false";
            }
            datalist id="zones" { @for zone in chrono_tz::TZ_VARIANTS { option value=(zone.name()) {} } }
            label { "Refresh "
                select name="refresh" { @for one in REFRESH { option value=(one) selected[one == *refresh] { (every(one)) } } }
            }
            button { "Save" }
        }
        (notifications(&view))
    })
}

#[cfg(feature = "webhooks")]
fn notifications(view: &View) -> Markup {
    super::webhooks::section(view)
}

#[cfg(not(feature = "webhooks"))]
fn notifications(_: &View) -> Markup {
    html! {}
}

fn every(seconds: u64) -> String {
    match seconds {
        0 => "off".into(),
        1 => "every second".into(),
        seconds => format!("every {seconds} seconds"),
    }
}

pub(crate) async fn save(view: View, Form(chosen): Form<Chosen>) -> Result<Response, Failed> {
    let settings = Settings::chosen(&chosen.theme, &chosen.zone, &chosen.refresh);
    let cookie = settings.map_err(Failed::BadRequest)?.cookie(&view.root());
    let page = format!("{}?did=Saved.", view.links.page("settings"));
    Ok(([(SET_COOKIE, cookie)], Redirect::to(&page)).into_response())
}
