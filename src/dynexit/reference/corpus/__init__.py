"""The generated corpus the reference models are trained and tested on."""
