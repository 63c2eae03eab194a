use asynqueue_macros::FromState;

#[derive(FromState)]
#[from_state(crat = asynqueue_core)]
struct A;

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct B {
    #[from_state(defualt)]
    a: u8,
    #[from_state(default = 5)]
    b: u8,
    #[from_state]
    c: u8,
    #[from_state(default, default)]
    d: u8,
    #[from_state(with = make)]
    e: u8,
}

#[derive(FromState)]
#[from_state(crate = "asynqueue_core")]
struct C;

fn main() {}
