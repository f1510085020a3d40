"""What stops a training before a step that is not finite, names the cause and runs it again."""
