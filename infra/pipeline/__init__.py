"""What the deployment pipeline does, in code that is tested; the workflows only call it."""
