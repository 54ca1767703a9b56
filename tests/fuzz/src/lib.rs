//! What every parser must keep to, whatever it is given: a function of bytes for each, which panics
//! where that is broken.
