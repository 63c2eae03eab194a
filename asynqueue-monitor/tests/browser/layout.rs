//! Where the parts of a page are, at the widths of a desktop and a phone.

use asynqueue_core::scheduler::{Entry, Timetable};
use serde_json::json;

use super::{
    browser::Browser,
    system::{Email, News, System},
};

/// A name that a browser cannot break at spaces or hyphens.
const LONG: &str = "notifications.transactional.eu_central_1.high_priority.version_2";

pub(crate) const DESKTOP: (u32, u32) = (1440, 900);
pub(crate) const PHONE: (u32, u32) = (390, 844);

impl Browser {
    pub(crate) async fn resize(&self, (width, height): (u32, u32)) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// Fails if a script returns anything for a page.
    async fn finds_nothing(&self, page: &str, script: &str) {
        self.open(page).await;
        assert_eq!(self.run(script).await, json!([]), "{page}");
    }
}

#[tokio::test]
async fn each_value_stands_beside_its_name() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let misplaced = "return [...document.querySelectorAll('.node-info dt, .facts dt, section dt')].filter((name) => {
        const value = name.nextElementSibling;
        const [a, b] = [name, value].map((one) => one.getBoundingClientRect());
        return value.tagName === 'DD' && a.height > 0 && (Math.abs(a.top - b.top) > 1 || b.left < a.right - 1);
    }).map((name) => name.textContent)";
    for size in [DESKTOP, PHONE] {
        browser.resize(size).await;
        for page in system.pages() {
            browser.finds_nothing(&page, misplaced).await;
        }
    }
}

/// The first column stays in sight while a table scrolls. It must leave room for the others.
#[tokio::test]
async fn every_figure_and_button_of_a_table_can_be_reached_on_a_phone() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let email = || Email { to: "ada".into() };
    let task = system.producer.enqueue(email()).queue(LONG);
    task.await.expect("accepted");
    let entry = Entry::new(LONG, "0 8 * * 1", email()).expect("a rule");
    let stored = Timetable::new(system.broker.clone()).put(entry).await;
    stored.expect("stored");
    let text = "news".into();
    let news = system.producer.enqueue(News { text }).group(LONG);
    news.await.expect("accepted");
    browser.resize(PHONE).await;
    let hidden = "const hidden = [];
        for (const part of document.querySelectorAll('.scroll tbody :is(td, th, a, button)')) {
            if (!part.textContent.trim() || !part.checkVisibility()) continue;
            part.scrollIntoView({ block: 'center', inline: 'center' });
            // The first line of a link that wraps.
            const { left, top, width, height } = part.getClientRects()[0];
            const first = part.closest('tr').querySelector('th[scope=row]');
            const room = part.closest('.scroll').clientWidth - (first?.offsetWidth ?? 0);
            const isWhole = !part.matches('td.number') || width <= room;
            const top_most = document.elementFromPoint(left + width / 2, top + height / 2);
            if (!isWhole || !part.contains(top_most)) hidden.push(`${part.tagName} ${part.textContent}`);
        }
        return hidden";
    for path in ["", "/schedules", "/charts", "/groups", "/servers"] {
        let page = system.url(path);
        browser.finds_nothing(&page, hidden).await;
    }
}

#[tokio::test]
async fn the_actions_are_in_sight_while_tasks_are_selected() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let out_of_sight = "[...document.querySelectorAll('form.tasks .actions :is(select, summary, button:not([hidden]))')].filter((part) => {
        const { left, top, width, height } = part.getBoundingClientRect();
        return part.checkVisibility() && !part.contains(document.elementFromPoint(left + width / 2, top + height / 2));
    }).map((part) => part.textContent)";
    for size in [DESKTOP, PHONE] {
        browser.resize(size).await;
        browser
            .open(&system.url("/queues/backlog?state=pending"))
            .await;
        browser
            .run("for (const box of [...document.querySelectorAll('form.tasks [name=id]')].slice(0, 3)) box.click(); scrollTo(0, 0)")
            .await;
        let found = browser.run(&format!("return {out_of_sight}")).await;
        assert_eq!(found, json!([]), "{size:?}");
        // The last row is above the bar, not behind it.
        let last = "const row = [...document.querySelectorAll('form.tasks tbody tr')].at(-1);
            row.querySelector('a.id').focus();
            const [a, b] = [row.querySelector('a.id'), document.querySelector('form.tasks > .actions')].map((one) => one.getBoundingClientRect());
            return a.bottom <= b.top";
        assert_eq!(browser.run(last).await, true, "{size:?}");
    }
}

#[tokio::test]
async fn titles_of_figures_are_aligned_with_their_figures() {
    let (system, browser) = tokio::join!(System::start(), Browser::start());
    let misaligned = "return [...document.querySelectorAll('td')].filter((cell) => {
        const title = cell.closest('table').tHead.rows[0].cells[cell.cellIndex];
        const [a, b] = [cell, title].map((one) => getComputedStyle(one).textAlign.replace('start', 'left'));
        return a !== b;
    }).map((cell) => `${cell.dataset.label ?? cell.cellIndex}: ${cell.textContent}`)";
    browser.resize(DESKTOP).await;
    for page in system.pages() {
        browser.finds_nothing(&page, misaligned).await;
    }
}
