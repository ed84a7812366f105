"""`python -m bandit_router` is the command `bandit-router`."""

from bandit_router.cli import main

if __name__ == "__main__":
    main()
