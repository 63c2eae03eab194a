//! Messages as they occur, in groups of one cause.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{Fingerprint, normalized};
use crate::task::{Failure, FailureKind};

fn of(message: &str) -> Fingerprint {
    Fingerprint::of("card:charge", FailureKind::Error, message)
}

/// Each line has messages of one cause. No two lines have the same cause.
const CAUSES: [&[&str]; 48] = [
    &[
        "400 Bad Request: unknown parameter amount_cents (request req_8fA2kd91)",
        "400 Bad Request: unknown parameter amount_cents (request req_91c)",
        "400 Bad Request: unknown parameter amount_cents (request req_8f…)",
    ],
    &["503 Bad Request: unknown parameter amount_cents (request req_8f)"],
    &["card_declined: insufficient_funds"],
    &["card_declined: expired_card"],
    &[
        "index out of bounds: the len is 3 but the index is 7",
        "index out of bounds: the len is 300 but the index is 300",
    ],
    &["panicked: called `Option::unwrap()` on a `None` value"],
    &[
        "panicked: called `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound }",
        "panicked: called `Result::unwrap()` on an `Err` value: Os { code: 3, kind: NotFound }",
    ],
    &["error trying to connect: tcp connect error: Connection refused (os error 111)"],
    &["error trying to connect: tcp connect error: Connection refused (os error 61)"],
    &[
        "connect to 10.0.0.7:5432: timed out after 1.5s",
        "connect to 192.168.17.201:5433: timed out after 30s",
        "connect to [2001:db8::a1]:5432: timed out after 812ms",
    ],
    &[
        "HTTP status server error (503 Service Unavailable) for url (https://api.example.com/v1/charges/ch_1)",
        "HTTP status server error (503 Service Unavailable) for url (https://eu.api.example.com/v1?x=2)",
    ],
    &["HTTP status client error (404 Not Found) for url (https://api.example.com/v1/charges/ch_1)"],
    &[
        "HTTP/1.1 502 from upstream 4",
        "HTTP/1.0 502 from upstream 17",
    ],
    &["HTTP/2 504 from upstream 4"],
    &["unexpected response, status: 429"],
    &["unexpected response, status: 401"],
    &[
        "charge failed: 500 Internal Server Error, trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "charge failed: 500 Internal Server Error, trace 00f067aa0ba902b7",
    ],
    &["charge failed: 403 Forbidden, trace 4bf92f3577b34da6a3ce929d0e0e4736"],
    &[
        "missing field `amount` at line 1 column 27",
        "missing field `amount` at line 14 column 3",
    ],
    &["missing field `currency` at line 1 column 27"],
    &[
        "invalid type: string \"12,50\", expected u64 at line 1 column 20",
        "invalid type: string \"zwölf\", expected u64 at line 1 column 9",
    ],
    &[
        "duplicate key value violates unique constraint \"orders_pkey\": Key (id)=(1000123) already exists.",
        "duplicate key value violates unique constraint \"orders_pkey\": Key (id)=(7) already exists.",
    ],
    &[
        "duplicate key value violates unique constraint \"users_email_key\": Key (id)=(7) already exists.",
    ],
    &["relation \"orders\" does not exist"],
    &["relation \"invoices\" does not exist"],
    &[
        "No such file or directory: /var/lib/app/invoices/2026/11/i-1.pdf",
        "No such file or directory: ./i-2.pdf",
    ],
    &[
        "mailbox ada@example.com is full",
        "mailbox bob.smith+tag@mail.example.co.uk is full",
    ],
    &[
        "order 550e8400-e29b-41d4-a716-446655440000 not found",
        "order abcdabcd-abcd-abcd-abcd-abcdabcdabcd not found",
        "order 01HV8Z3X9QK2M4N6P8R0S2T4V6 not found",
        "order 1000123 not found",
    ],
    &["customer 1000123 not found"],
    &[
        "lock 'invoice of Müller & Co' is held by worker-7 since 2026-11-27T14:06:56.123Z",
        "lock 'it's mine' is held by worker-12 since 2026-11-27T04:00:00Z",
    ],
    &[
        r#"{"error":{"code":"insufficient_funds","message":"You have 12 €.","request":"req_8f"}}"#,
        r#"{"error":{"code":"insufficient_funds","message":"You have -3.50 €.","request":"req_ab"}}"#,
    ],
    &[r#"{"error":{"code":"expired_card","message":"You have 12 €.","request":"req_8f"}}"#],
    &[
        "can't decode the user's photo",
        "can't  decode the\nuser's photo",
    ],
    &[
        "deadlock detected: process 4711 waits for 4712",
        "deadlock detected: process 1 waits for 99",
    ],
    &[
        "missing rows [1, 2, 3]",
        "missing rows [17]",
        "missing rows [4,5]",
    ],
    &["exit code: 137"],
    &["exit code: 101"],
    &[
        r"cannot open C:\Users\ada\photo.png",
        r"cannot open \\server\share\photo.png",
    ],
    &["cannot parse utf8 at 17", "cannot parse utf8 at 4"],
    &[
        "slow down: limit of 1,000 requests reached",
        "slow down: limit of 20 requests reached",
    ],
    &[
        "panicked at src/charge.rs:42:7: no route",
        "panicked at /ci/build/src/charge.rs:57:13: no route",
    ],
    // Languages without spaces between words.
    &["注文123が失敗しました", "注文4567が失敗しました"],
    &["在庫55が不足しています"],
    &["订单5支付失败", "订单70支付失败"],
    &["주문 12이 실패했습니다", "주문 345이 실패했습니다"],
    // Messages in JSON and in structs.
    &[
        r#"{"status":"error","message":"insufficient funds of account 12","trace":"ab"}"#,
        r#"{"status":"error","message":"insufficient funds of account 9","trace":"cd"}"#,
    ],
    &[r#"{"status":"error","message":"account closed","trace":"ab"}"#],
    &[r#"Status { code: Internal, message: "stack overflow of \"ada\"" }"#],
];

#[test]
fn messages_of_one_cause_have_one_fingerprint_and_others_have_another() {
    let mut seen = HashMap::new();
    for messages in CAUSES {
        let first = of(messages[0]);
        for message in messages {
            let (one, other) = (normalized(messages[0]), normalized(message));
            assert_eq!(of(message), first, "{one}\n{other}");
        }
        let before = seen.insert(first, messages[0]);
        let form = normalized(messages[0]);
        assert_eq!(before, None, "{}: {form}", messages[0]);
    }
}

#[test]
fn the_normalized_form_can_be_read() {
    for (message, form) in [
        (
            "400 Bad Request: unknown parameter amount_cents (request req_8fA2)",
            "400 Bad Request: unknown parameter amount_cents (request req_#)",
        ),
        (
            "panicked at /ci/src/charge.rs:57:13: no route",
            "panicked at <path>/charge.rs: no route",
        ),
        (
            r#"{"code":"expired_card","to":"ada"}"#,
            r#"{"code":"expired_card","to":"…"}"#,
        ),
        (
            "connect to 10.0.0.7:5432: Connection refused (os error 111)",
            "connect to #: Connection refused (os error 111)",
        ),
        ("注文123が失敗しました", "注文#が失敗しました"),
        (
            "\u{1b}[1;31merror\u{1b}[0m: no route to \u{1b}[33m10.0.0.7\u{1b}[0m",
            "error: no route to #",
        ),
        (
            r#"{"error":{"message":"user 'ada' is 12"}}"#,
            r#"{"error":{"message":"user "…" is #"}}"#,
        ),
        ("at -3.5 °C", "at # °C"),
        ("in 2026-11-27T14:06:56Z", "in #"),
        ("see https://example.com/a?b=c.", "see <url>."),
    ] {
        assert_eq!(normalized(message), form, "{message}");
    }
}

#[test]
fn event_and_kind_are_part_of_the_cause() {
    let message = "no route";
    let one = Fingerprint::of("a", FailureKind::Error, message);
    assert_ne!(one, Fingerprint::of("b", FailureKind::Error, message));
    assert_ne!(one, Fingerprint::of("a", FailureKind::Panic, message));
}

/// Programs of different versions count the same failure under the same fingerprint.
#[test]
fn a_fingerprint_is_the_same_in_every_version() {
    assert_eq!(of("no route").to_string(), "ac64a7727d3c9e28");
    assert_eq!(of("no route").to_string().parse(), Ok(of("no route")));
    for invalid in ["", "12", "g000000000000000", "+000000000000000"] {
        invalid.parse::<Fingerprint>().expect_err(invalid);
    }
}

/// The limit is one of the normalized form. Otherwise ids of other lengths would end it elsewhere.
#[test]
fn long_messages_of_one_cause_stay_together() {
    let message = |id: &str| format!("order {id}: {}", "no route to the bank, ".repeat(100));
    assert_eq!(of(&message("7")), of(&message(&"7".repeat(300))));
    assert!(normalized(&message("7")).len() <= 512);
    let unclosed = |name: &str| format!("{}'{name}", "x".repeat(Failure::MAX_MESSAGE));
    assert_eq!(of(&unclosed("a")), of(&unclosed("b")));
}

proptest! {
    #[test]
    fn any_text_has_a_normalized_form(message in "\\PC{0,200}|[ -~]{0,300}|[0-9a-f:./'\"`=\\\\…-]{0,200}") {
        let form = normalized(&message);
        prop_assert!(form.len() <= 512);
        prop_assert_eq!(form.trim_end(), &form);
    }

    #[test]
    fn a_number_in_a_message_does_not_matter(one in 0_u64.., other in 0_u64..) {
        let message = |id: u64| format!("order {id} was refused");
        prop_assert_eq!(of(&message(one)), of(&message(other)));
    }

    #[test]
    fn an_id_in_a_message_does_not_matter(one in "[0-9a-f]{8,40}", other in "[0-9][A-Za-z0-9]{3,20}") {
        let message = |id: &str| format!("request req_{id} was refused (order {id})");
        prop_assert_eq!(of(&message(&one)), of(&message(&other)));
    }
}
