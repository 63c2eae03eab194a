//! Accessibility, checked by axe.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{browser::Browser, system::System};

/// The axe script that `scripts/test` installs.
pub(crate) fn axe() -> String {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/lib");
    let versions = std::fs::read_dir(&tools).into_iter().flatten().flatten();
    let file = |version: PathBuf| version.join("site-packages/axe_core_python/axe.min.js");
    let found = versions
        .map(|version| file(version.path()))
        .find(|file| file.exists());
    let found = found.unwrap_or_else(|| {
        panic!(
            "axe is missing in {}: run scripts/test once to install it",
            tools.display()
        )
    });
    std::fs::read_to_string(found).expect("text")
}

/// The serious and critical violations on the open page.
pub(crate) async fn faults(browser: &Browser, axe: &str) -> Vec<String> {
    browser
        .client
        .execute(axe, vec![])
        .await
        .expect("axe is loaded");
    let script = "const done = arguments[arguments.length - 1];
        axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa'] }).then((found) => done(found.violations), (error) => done(String(error)));";
    let found = browser
        .client
        .execute_async(script, vec![])
        .await
        .expect("axe has run");
    let found = found.as_array().unwrap_or_else(|| panic!("{found}"));
    let serious = found
        .iter()
        .filter(|one| one["impact"] == "serious" || one["impact"] == "critical");
    let named = serious.map(|one| {
        let places: Vec<_> = one["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|node| &node["html"])
            .take(3)
            .collect();
        let help = one["help"].as_str().unwrap_or_default();
        format!(
            "{}: {help}: {}",
            one["id"],
            Value::from_iter(places.into_iter().cloned())
        )
    });
    named.collect()
}

#[tokio::test]
async fn axe_finds_no_serious_violations_on_any_page_light_or_dark() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let (axe, mut all) = (axe(), Vec::new());
    for page in system.pages() {
        browser.open(&page).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            let found = faults(&browser, &axe).await;
            all.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{page}, {scheme}: {fault}")),
            );
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
