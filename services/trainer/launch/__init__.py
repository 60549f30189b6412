"""How the processes of a training are started and watched, on one machine or several."""
