"""`python -m mastaf.pipelines`."""

from .cli import main

if __name__ == "__main__":
    main()
