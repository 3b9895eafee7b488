//! Tests through the binary and on real processes.

<<<<<<< HEAD
mod gpu;
mod support;
=======
mod process;
>>>>>>> server
