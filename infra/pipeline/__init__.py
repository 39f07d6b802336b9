"""The steps of the deployment pipeline, as tested code that the workflows only call."""
