# A simulation that counts: STEPS steps of STEP seconds, and a checkpoint after every EVERY of them.
# Every step is a line `ATTEMPT STEP` of steps.log; a checkpoint holds those that it need not repeat.
saved=$SIMHERD_CHECKPOINT_DIR
save() {
  cp steps.log "$saved/steps.new" && mv "$saved/steps.new" "$saved/steps"
}
trap 'save; exit 75' USR1
touch steps.log
[ ! -f "$saved/steps" ] || cp "$saved/steps" steps.log
step=$(wc -l <steps.log)
while [ "$step" -lt "$STEPS" ]; do
  sleep "$STEP"
  step=$((step + 1))
  echo "$SIMHERD_ATTEMPT $step" >>steps.log
  [ $((step % EVERY)) != 0 ] || save
done
echo $((step * (step + 1) / 2)) >result.txt
