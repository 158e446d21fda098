"""What is around trading: the processes of strategies, the door for commands, notices to people, and figures."""
