"""What runs the product: on Azure, in the pipeline, on one machine."""
