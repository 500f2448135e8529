"""What the stories share: a server of their own or a shared one, archives good and bad, raw connections."""
