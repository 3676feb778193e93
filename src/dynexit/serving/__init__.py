"""An OpenAI-compatible server: one model, many texts at once, each as deep as its judge wants."""
