"""Client and settings of providers that speak the OpenAI API."""
