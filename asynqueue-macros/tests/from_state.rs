//! What `#[derive(FromState)]` and `#[task(process = …)]` generate.

use std::sync::Arc;

use asynqueue_core::{
    process::{Context, FromState, Payload, Process, ServerState, TaskError},
    registry::Registration,
};
use asynqueue_macros::{FromState, Task};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq)]
struct Mailer(&'static str);

#[derive(Debug, PartialEq, FromState)]
#[from_state(crate = asynqueue_core)]
struct Named {
    mailer: Mailer,
    r#type: Arc<str>,
    #[from_state(default)]
    seen: Vec<u8>,
}

#[derive(Debug, PartialEq, FromState)]
#[from_state(crate = asynqueue_core)]
struct Tuple(Mailer, #[from_state(default)] u8);

#[derive(Debug, PartialEq, FromState)]
#[from_state(crate = asynqueue_core)]
struct Unit;

#[derive(Debug, PartialEq, FromState)]
#[from_state(crate = asynqueue_core)]
struct Generic<M: PartialEq, const N: usize, D = ()>
where
    D: PartialEq,
{
    mailer: M,
    #[from_state(default)]
    default: D,
}

fn state() -> ServerState {
    let mut state = ServerState::default();
    state.insert(Mailer("smtp"));
    state.insert(Arc::<str>::from("kind"));
    state
}

#[test]
fn each_field_is_cloned_from_the_state_by_its_type() {
    let state = state();
    assert_eq!(
        Named::from_state(&state),
        Ok(Named {
            mailer: Mailer("smtp"),
            r#type: "kind".into(),
            seen: Vec::new()
        })
    );
    assert_eq!(Tuple::from_state(&state), Ok(Tuple(Mailer("smtp"), 0)));
    assert_eq!(Unit::from_state(&state), Ok(Unit));
    assert_eq!(
        Generic::<Mailer, 3>::from_state(&state),
        Ok(Generic {
            mailer: Mailer("smtp"),
            default: ()
        })
    );
}

#[test]
fn a_type_missing_in_the_state_is_named() {
    let mut state = ServerState::default();
    state.insert(Mailer("smtp"));
    let error = Named::from_state(&state).expect_err("no Arc<str>");
    assert!(error.to_string().contains("Arc<str>"), "{error}");
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", process = SendWelcome, crate = asynqueue_core)]
struct WelcomeEmail;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct SendWelcome {
    #[expect(dead_code, reason = "only there to be taken from the state")]
    mailer: Mailer,
}

impl Process<WelcomeEmail> for SendWelcome {
    async fn handle(&self, _: Payload<WelcomeEmail>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

#[test]
fn the_given_handler_is_registered_at_link_time() {
    let events: Vec<&str> = Registration::all().map(Registration::event).collect();
    assert_eq!(events, ["email:welcome"]);
    let registration = Registration::all().next().expect("one");
    let process = registration.build(&state()).expect("the mailer is there");
    assert_eq!(process.event(), "email:welcome");
    let error = registration
        .build(&ServerState::default())
        .expect_err("no mailer");
    assert!(error.to_string().contains("Mailer"), "{error}");
}
