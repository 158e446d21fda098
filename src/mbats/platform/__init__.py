"""The native platform: the services as plain processes on this machine, and the steps that prepare them."""
