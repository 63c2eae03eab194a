use asynqueue_macros::FromState;

struct NotClone;

struct NotDefault;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct Send {
    a: NotClone,
    #[from_state(default)]
    b: NotDefault,
    c: std::rc::Rc<u8>,
}

fn main() {}
