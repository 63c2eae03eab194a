use asynqueue_macros::FromState;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
enum Send {
    Mail,
}

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
union Either {
    mail: u8,
}

fn main() {}
